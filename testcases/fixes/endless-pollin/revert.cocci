// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts b817e22b2e91: /dev/cachefiles says that there is something to read as long as any
// request is unanswered, whether the daemon has read it or not.

@@
identifier xas, req, cache, mask;
declarer name XA_STATE;
@@
 cachefiles_daemon_poll(...)
 {
 ...
-XA_STATE(xas, &cache->reqs, 0);
-struct cachefiles_req *req;
 ...
 if (cachefiles_in_ondemand_mode(cache)) {
	if (!xa_empty(&cache->reqs)) {
-		xas_lock(&xas);
-		...
-		xas_unlock(&xas);
+		mask |= EPOLLIN;
	}
 } else {
	...
 }
 ...
 return mask;
 }
