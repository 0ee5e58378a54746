// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts e21a2f17566c: the cache's credentials are no longer put, neither when the cache is
// unbound nor when binding it fails.

@unbind@
expression cache;
@@
 cachefiles_daemon_unbind(...)
 {
 <+...
-put_cred(cache->cache_cred);
 ...+>
 }

@failed_bind@
expression cache;
@@
 cachefiles_add_cache(...)
 {
 <+...
-put_cred(cache->cache_cred);
-cache->cache_cred = NULL;
 ...+>
 }
