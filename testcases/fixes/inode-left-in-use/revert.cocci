// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts ea5dc046127e: a backing file whose opening or making fails stays marked as in use.

@opening@
@@
 cachefiles_open_file(...)
 {
 <+...
-cachefiles_do_unmark_inode_in_use(...);
 ...+>
 }

@making@
@@
 cachefiles_create_tmpfile(...)
 {
 <+...
-cachefiles_do_unmark_inode_in_use(...);
 ...+>
 }
