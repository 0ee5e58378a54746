// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 85e833cd7243: an I/O error marks the cache as dead, but the requests that wait for the
// daemon go on waiting. (It stands in the macro cachefiles_io_error() of internal.h.)

@@
expression cache;
@@
-if (cachefiles_in_ondemand_mode(cache))
-	cachefiles_flush_reqs(cache);
