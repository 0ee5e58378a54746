// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 6b89819b06d8: __cachefiles_write() answers every success with 0, and a write through an
// anonymous fd takes that for the whole length that it was asked for.

@quiet_success@
identifier ret;
@@
 __cachefiles_write(...)
 {
 <+...
 switch (ret) {
 default:
	...
	cachefiles_write_complete(...);
+	if (ret > 0)
+		ret = 0;
	break;
 }
 ...+>
 }

@whole_length@
identifier kiocb, iter, ret, length;
@@
 cachefiles_ondemand_fd_write_iter(struct kiocb *kiocb, struct iov_iter *iter)
 {
 ...
 size_t length = iter->count;
 <+...
-if (ret > 0)
-	kiocb->ki_pos += ret;
+if (!ret) {
+	ret = length;
+	kiocb->ki_pos += ret;
+}
 ...+>
 }
