// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts da6ef2dffe60: cachefiles_open_file() puts the dentry that it is given, on all its ways
// out but the one for an inode that is in use already.

@caller@
identifier ret, dentry;
@@
 cachefiles_look_up_object(...)
 {
 <+...
 ret = cachefiles_open_file(..., dentry);
-dput(dentry);
 ...+>
 }

@success@
identifier dentry;
@@
 cachefiles_open_file(..., struct dentry *dentry)
 {
 <+...
 touch_atime(...);
+dput(dentry);
 return true;
 ...+>
 }

@refused@
identifier dentry, file;
@@
 cachefiles_open_file(..., struct dentry *dentry)
 {
 <+...
 cachefiles_unmark_inode_in_use(..., file);
 fput(file);
+dput(dentry);
 ...+>
 }

@failed@
identifier dentry;
@@
 cachefiles_open_file(..., struct dentry *dentry)
 {
 <+...
 cachefiles_do_unmark_inode_in_use(...);
+dput(dentry);
 return false;
 ...+>
 }
