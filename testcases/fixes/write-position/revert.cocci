// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 56f4856b425a: a write through an anonymous fd no longer moves the fd's position.

@@
identifier kiocb, ret;
@@
 cachefiles_ondemand_fd_write_iter(struct kiocb *kiocb, ...)
 {
 <+...
-if (ret > 0)
-	kiocb->ki_pos += ret;
 ...+>
 }
