// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 0ece614a52bc: an attribute that cannot be read is taken for an outdated one.

@volume@
identifier ret, xlen;
@@
 cachefiles_check_volume_xattr(...)
 {
 <+...
 if (xlen < 0) {
-	ret = xlen;
	...
 }
 ...+>
 }

@object@
identifier ret, xlen;
@@
 cachefiles_check_auxdata(...)
 {
 <+...
 if (xlen < 0) {
-	ret = xlen;
	...
 }
 ...+>
 }
