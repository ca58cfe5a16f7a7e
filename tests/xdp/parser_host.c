// SPDX-License-Identifier: MIT
//
// The filter's parser on the host: as a library for ctypes, and (with FUZZ) as libFuzzer's target,
// which writes each input with what the parser says of it to a descriptor, for Python to compare.

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "quicpipe_parse.h"

// In the order and sizes of tests/xdp/parser.py's _REPORT.
struct report {
    uint32_t bytes; // of the input
    uint32_t reason;
    uint32_t is_ipv4;
    uint32_t ip_bytes;
    uint32_t udp_bytes;
    uint32_t udp_at; // offsets into the frame
    uint32_t id_at;
};

void quicpipe_report(const uint8_t *frame, size_t bytes, struct report *report)
{
    struct quicpipe_cursor cursor = {(void *)frame, (void *)(frame + bytes)};
    struct quicpipe_packet packet = {0};
    enum quicpipe_reason reason = quicpipe_parse_udp(&cursor, &packet);

    *report = (struct report){.bytes = bytes};
    if (reason == QUICPIPE_FORWARDED)
        reason = quicpipe_parse_quic(&cursor, &packet);
    if (reason == QUICPIPE_FORWARDED)
        reason = quicpipe_parse_limits(&packet);
    report->reason = reason;
    if (reason != QUICPIPE_FORWARDED)
        return;
    report->is_ipv4 = packet.is_ipv4;
    report->ip_bytes = packet.ip_bytes;
    report->udp_bytes = packet.udp_bytes;
    report->udp_at = (const uint8_t *)packet.udp - frame;
    report->id_at = (const uint8_t *)packet.id - frame;
}

#ifdef FUZZ
int LLVMFuzzerTestOneInput(const uint8_t *frame, size_t bytes)
{
    static FILE *out;
    struct report report;

    if (!out && !(out = fdopen(atoi(getenv("QUICPIPE_FUZZ_FD")), "wb")))
        abort();
    quicpipe_report(frame, bytes, &report);
    if (fwrite(&report, sizeof(report), 1, out) != 1 || fwrite(frame, 1, bytes, out) != bytes)
        exit(1); // Python has seen enough
    return 0;
}
#endif
