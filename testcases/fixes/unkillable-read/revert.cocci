// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts bc9dde615546: whoever waits for the daemon's answer to a request waits until it comes,
// killed or not.

@@
identifier ret, req, again;
statement S;
@@
 cachefiles_ondemand_send_req(...)
 {
 <+...
-again:
-	ret = wait_for_completion_killable(&req->done);
-	if (!ret) {
-		ret = req->error;
-	} else S
+	wait_for_completion(&req->done);
+	ret = req->error;
 ...+>
 }
