// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 6633213139d8: binding a cache no longer asks whether the backing file system can make
// temporary files.

@@
expression root, other_needs;
@@
 cachefiles_add_cache(...)
 {
 <+...
 other_needs
-|| !d_backing_inode(root)->i_op->tmpfile
 ...+>
 }
