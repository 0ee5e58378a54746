// SPDX-License-Identifier: GPL-2.0-only
//
// Applies 2c88c16dc20e: a mount that could not be made is not kept where later mounts look for it.

@@
expression type;
identifier error, failed;
@@
 erofs_fscache_init_domain(...)
 {
 <+...
-erofs_pseudo_mnt = kern_mount(type);
-if (IS_ERR(erofs_pseudo_mnt)) {
-	error = PTR_ERR(erofs_pseudo_mnt);
-	goto failed;
-}
+struct vfsmount *made = kern_mount(type);
+
+if (IS_ERR(made)) {
+	error = PTR_ERR(made);
+	goto failed;
+}
+erofs_pseudo_mnt = made;
 ...+>
 }
