// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts c3d6569a4332: the opening of an object no longer looks whether the object has any
// on-demand state before it uses that.

@@
identifier object;
@@
 cachefiles_ondemand_init_object(struct cachefiles_object *object)
 {
 ...
-if (!object->ondemand)
-	return 0;
 ...
 }
