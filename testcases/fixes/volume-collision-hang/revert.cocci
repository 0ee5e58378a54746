// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 8226e37d82f4: the one who waits for a relinquished volume waits for the word of flags to
// change; the one who frees it wakes those who wait for the bit.

@waiter@
identifier candidate;
expression limit;
@@
 fscache_wait_on_volume_collision(struct fscache_volume *candidate, ...)
 {
-wait_on_bit_timeout(&candidate->flags, FSCACHE_VOLUME_ACQUIRE_PENDING, TASK_UNINTERRUPTIBLE, limit);
+wait_var_event_timeout(&candidate->flags, !fscache_is_acquire_pending(candidate), limit);
 if (...) {
	...
-	wait_on_bit(&candidate->flags, FSCACHE_VOLUME_ACQUIRE_PENDING, TASK_UNINTERRUPTIBLE);
+	wait_var_event(&candidate->flags, !fscache_is_acquire_pending(candidate));
 }
 }

@waker@
identifier cursor;
@@
 fscache_wake_pending_volume(...)
 {
 <+...
-clear_and_wake_up_bit(FSCACHE_VOLUME_ACQUIRE_PENDING, &cursor->flags);
+clear_bit(FSCACHE_VOLUME_ACQUIRE_PENDING, &cursor->flags);
+wake_up_bit(&cursor->flags, FSCACHE_VOLUME_ACQUIRE_PENDING);
 ...+>
 }
