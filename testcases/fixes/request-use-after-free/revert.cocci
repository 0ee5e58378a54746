// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts de3e26f9e5b7: whoever reads a request for the daemon no longer holds a reference to it.

@@
expression req;
@@
 cachefiles_ondemand_daemon_read(...)
 {
 <+...
(
-refcount_inc(&req->ref);
|
-cachefiles_req_put(req);
)
 ...+>
 }
