// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 0a790040838c, as far as it can be seen from outside: an object is opened although its
// anonymous fd was closed before the OPEN was answered. The lock itself stays, because later
// fixes use it too.

@@
identifier info;
@@
 cachefiles_ondemand_copen(...)
 {
 <+...
 spin_lock(&info->lock);
-if (info->ondemand_id == CACHEFILES_ONDEMAND_ID_CLOSED) {
-	...
-	goto out;
-}
 ...+>
 }
