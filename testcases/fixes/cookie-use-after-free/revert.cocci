// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 5d8f80578907: a volume's accesses are no longer waited for before the cache's
// objects are withdrawn, but only when the volume itself is.

@call@
@@
 cachefiles_withdraw_cache(...)
 {
 <+...
-cachefiles_withdraw_fscache_volumes(...);
 ...+>
 }

@definition@
@@
-cachefiles_withdraw_fscache_volumes(...)
-{
-...
-}

@late@
identifier volume;
@@
 cachefiles_withdraw_volume(struct cachefiles_volume *volume)
 {
+	fscache_withdraw_volume(volume->vcookie);
	...
 }
