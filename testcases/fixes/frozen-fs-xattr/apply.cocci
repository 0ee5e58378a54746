// SPDX-License-Identifier: GPL-2.0-only
//
// Applies 80887f316729: around each setting and removing of its extended attribute cachefiles asks
// for write access to the backing mount, and so waits while the file system is frozen.

@object@
identifier file, ret;
expression idmap, dentry, name, value, size;
@@
 cachefiles_set_object_xattr(...)
 {
 <+...
 struct file *file = ...;
 ...
-if (ret == 0)
-	ret = vfs_setxattr(idmap, dentry, name, value, size, 0);
+if (ret == 0) {
+	ret = mnt_want_write_file(file);
+	if (ret == 0) {
+		ret = vfs_setxattr(idmap, dentry, name, value, size, 0);
+		mnt_drop_write_file(file);
+	}
+}
 ...+>
 }

@removal@
identifier cache, ret;
expression idmap, dentry, name;
@@
 cachefiles_remove_object_xattr(struct cachefiles_cache *cache, ...)
 {
 <+...
-if (ret == 0)
-	ret = vfs_removexattr(idmap, dentry, name);
+if (ret == 0) {
+	ret = mnt_want_write(cache->mnt);
+	if (ret == 0) {
+		ret = vfs_removexattr(idmap, dentry, name);
+		mnt_drop_write(cache->mnt);
+	}
+}
 ...+>
 }

@volume@
identifier volume, ret;
expression idmap, dentry, name, value, size;
@@
 cachefiles_set_volume_xattr(struct cachefiles_volume *volume)
 {
 <+...
-if (ret == 0)
-	ret = vfs_setxattr(idmap, dentry, name, value, size, 0);
+if (ret == 0) {
+	ret = mnt_want_write(volume->cache->mnt);
+	if (ret == 0) {
+		ret = vfs_setxattr(idmap, dentry, name, value, size, 0);
+		mnt_drop_write(volume->cache->mnt);
+	}
+}
 ...+>
 }
