/* Message 42, the report of an end that receives, and message 49, the probe (docs/protocol.md). Pure. */
#ifndef MPT_FEEDBACK_H
#define MPT_FEEDBACK_H

#include <stdbool.h>
#include <stdint.h>

#include "_native.h"

enum { FEEDBACK = 0x42, PROBE = 0x49 }; /* first octets of messages */
enum { PROBE_LENGTH = 32 }; /* octets of message 49 */
enum { REPORT_LARGEST = 1200, REPORT_HEAD = 11, RECORD_LENGTH = 30, RANGE_LENGTH = 6 }; /* octets */
enum { NOTHING = -1 }; /* of fields that have no value */

/* Read a message. false: it is no report, or its lengths are wrong; it may be of anything. */
bool feedback_decode(const uint8_t *octets, uint32_t length, struct mpt_feedback *feedback);
/* Write a report that has at most REPORT_LARGEST octets. Return its length. */
uint32_t feedback_encode(const struct mpt_feedback *feedback, uint8_t *octets);

#endif
