// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 4988e35e95fc: an OPEN that is read a second time gives a second anonymous fd, although
// the object has one; and when that fails, the object counts as closed.

@get@
expression object, anon_file;
identifier err_put_file;
@@
 cachefiles_ondemand_get_fd(...)
 {
 <+...
(
-if (object->ondemand->ondemand_id > 0) {
-	...
-	goto err_put_file;
-}
|
-err_put_file:
-fput(anon_file->file);
-anon_file->file = NULL;
|
-if (object->ondemand->ondemand_id <= 0)
	cachefiles_ondemand_set_object_close(object);
)
 ...+>
 }

@release@
expression object;
@@
 cachefiles_ondemand_fd_release(...)
 {
 <+...
-if (!object)
-	return 0;
 ...+>
 }
