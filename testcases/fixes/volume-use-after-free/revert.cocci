// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 522018a0de6b: withdrawing a cache's volumes no longer holds a reference to each
// fscache volume, so that one may be freed while it is being withdrawn.

@@
identifier volume, vcookie;
expression lock, head, get, put;
@@
 cachefiles_withdraw_volumes(...)
 {
 ...
 for (;;) {
-	struct fscache_volume *vcookie = NULL;
	struct cachefiles_volume *volume = NULL;

	spin_lock(lock);
	if (!list_empty(head)) {
		volume = list_first_entry(...);
-		vcookie = fscache_try_get_volume(volume->vcookie, get);
-		if (!vcookie) {
-			...
-		}
		list_del_init(&volume->cache_link);
	}
	...
	cachefiles_withdraw_volume(volume);
-	fscache_put_volume(vcookie, put);
 }
 ...
 }
