/* SPDX-License-Identifier: Apache-2.0
 *
 * inv_crc32c.h: CRC-32C (Castagnoli, polynomial 0x1EDC6F41 reflected, RFC 3720 appendix B.4).
 * By the SSE 4.2 or ARMv8 instruction where the machine has it, else by an 8-way table.
 * inv_crc32c(0, "123456789", 9) == 0xE3069283. Chains: crc(crc(seed, a), b) == crc(seed, a + b).
 */
#ifndef INV_CRC32C_H
#define INV_CRC32C_H

#include "inv_base.h"

uint32_t inv_crc32c(uint32_t seed, const void *bytes, size_t size);
uint32_t inv_crc32c_portable(uint32_t seed, const void *bytes, size_t size); /* for tests */

#endif
