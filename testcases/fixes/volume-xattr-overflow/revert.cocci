// SPDX-License-Identifier: GPL-2.0-only
//
// Reverts 7b2f6c306601: what is copied behind the header of a volume's attribute is as long as
// header and content together.

@@
identifier buf, len;
expression content, volume;
@@
 cachefiles_set_volume_xattr(...)
 {
 <+...
 len += sizeof(*buf);
 ...
-memcpy(buf->data, content, volume->coherency_len);
+memcpy(buf->data, content, len);
 ...+>
 }
