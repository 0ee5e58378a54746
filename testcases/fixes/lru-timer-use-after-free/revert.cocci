// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 72a6e22c604c: fscache goes away while its timer may still be armed.

@@
symbol fscache_cookie_lru_timer;
@@
 fscache_exit(...)
 {
 ...
-timer_shutdown_sync(&fscache_cookie_lru_timer);
 ...
 }
