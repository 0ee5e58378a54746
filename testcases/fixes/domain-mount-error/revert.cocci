// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 2c88c16dc20e: what kern_mount() returns is kept at once, an error included.

@@
expression type;
identifier made, error, failed;
@@
 erofs_fscache_init_domain(...)
 {
 <+...
-struct vfsmount *made = kern_mount(type);
-if (IS_ERR(made)) {
-	error = PTR_ERR(made);
-	goto failed;
-}
-erofs_pseudo_mnt = made;
+erofs_pseudo_mnt = kern_mount(type);
+if (IS_ERR(erofs_pseudo_mnt)) {
+	error = PTR_ERR(erofs_pseudo_mnt);
+	goto failed;
+}
 ...+>
 }
