// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 80887f316729: extended attributes are set and removed without asking for write access
// to the backing mount, frozen or not.

@@
identifier ret;
statement S;
@@
(
 cachefiles_set_object_xattr
|
 cachefiles_remove_object_xattr
|
 cachefiles_set_volume_xattr
)
 (...)
 {
 <+...
-ret = \(mnt_want_write_file\|mnt_want_write\)(...);
-if (ret == 0) {
	S
-	\(mnt_drop_write_file\|mnt_drop_write\)(...);
-}
 ...+>
 }
