// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts a26dc49df37e: whatever request has the number that the daemon names is completed, be
// it another kind of request, one that nobody has read yet, or another object's.

@copen@
expression req;
@@
 cachefiles_ondemand_copen(...)
 {
 <+...
 if (!req
-    || req->msg.opcode != CACHEFILES_OP_OPEN || !req->object->ondemand->ondemand_id
    ) { ... }
 ...+>
 }

@cread@
expression req, mine;
@@
 cachefiles_ondemand_fd_ioctl(...)
 {
 <+...
 if (!req
-    || req->msg.opcode != CACHEFILES_OP_READ || req->object != mine
    ) { ... }
 ...+>
 }
