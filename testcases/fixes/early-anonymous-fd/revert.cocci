// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 4b4391e77a6b: an anonymous fd is in the reader's table of files before the message that
// names it has been copied to the reader, and is closed there if that fails.

// For close_fd(); Linux 6.12 no longer has it.
@header@
@@
 #include <linux/anon_inodes.h>
+#include <linux/fdtable.h>

@early@
identifier req, anon_file;
expression cache;
@@
 cachefiles_ondemand_get_fd(struct cachefiles_req *req, struct ondemand_anon_file *anon_file)
 {
 <+...
 cachefiles_get_unbind_pincount(cache);
+fd_install(anon_file->fd, anon_file->file);
 ...+>
 }

@late@
identifier anon_file;
expression ret;
@@
 cachefiles_ondemand_daemon_read(...)
 {
 <+...
 if (ret < 0) {
-	fput(anon_file.file);
-	put_unused_fd(anon_file.fd);
+	close_fd(anon_file.fd);
	...
 }
-fd_install(anon_file.fd, anon_file.file);
 ...+>
 }
