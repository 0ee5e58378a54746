// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 5638b067d370: cache->bshift converts blocks to pages again instead of bytes to blocks,
// what the file system says is shifted by it, and a write in flight is counted one block too many.

@shift@
identifier cache, stats;
@@
 cachefiles_add_cache(struct cachefiles_cache *cache)
 {
 <+...
-cache->bshift = ilog2(stats.f_bsize);
+cache->bshift = stats.f_bsize < PAGE_SIZE ? PAGE_SHIFT - ilog2(stats.f_bsize) : 0;
 ...
+stats.f_blocks >>= cache->bshift;
 do_div(stats.f_blocks, 100);
 ...+>
 }

@available@
identifier cache, stats, available;
@@
 cachefiles_has_space(struct cachefiles_cache *cache, ...)
 {
 <+...
-available = stats.f_bavail;
+available = stats.f_bavail >> cache->bshift;
 ...+>
 }

@writing@
identifier cache, ki;
expression length;
@@
 __cachefiles_write(...)
 {
 <+...
-ki->b_writing = (length + (1 << cache->bshift) - 1) >> cache->bshift;
+ki->b_writing = (length + (1 << cache->bshift)) >> cache->bshift;
 ...+>
 }
