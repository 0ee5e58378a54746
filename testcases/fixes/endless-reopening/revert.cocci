// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 4f8703fb3482: an object whose reopening failed is not set back to "closed".

@@
identifier info;
expression object;
@@
 cachefiles_ondemand_copen(...)
 {
 <+...
-spin_lock(&info->lock);
-if (info->ondemand_id == CACHEFILES_ONDEMAND_ID_CLOSED)
-	cachefiles_ondemand_set_object_close(object);
-spin_unlock(&info->lock);
 ...+>
 }
