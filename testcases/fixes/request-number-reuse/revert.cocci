// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 19f4f3990914: a request gets the lowest number that is free, so that the number of a
// request that was just completed is given to the next one.

@@
identifier xas, cache;
@@
 cachefiles_ondemand_send_req(...)
 {
 <+...
-xas.xa_index = cache->msg_id_next;
+xas.xa_index = 0;
 xas_find_marked(&xas, UINT_MAX, XA_FREE_MARK);
-if (xas.xa_node == XAS_RESTART) {
-	xas.xa_index = 0;
-	xas_find_marked(&xas, cache->msg_id_next - 1, XA_FREE_MARK);
-}
 ...
 if (xas_valid(&xas)) {
-	cache->msg_id_next = xas.xa_index + 1;
	...
 }
 ...+>
 }
