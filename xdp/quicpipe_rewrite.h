/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * How a packet that is sent on is changed: addresses, TTL, and the checksums that cover them.
 *
 * Checksums are updated, not computed anew (RFC 1624: HC' = ~(~HC + ~m + m')), so that a wrong one
 * stays wrong. All that changes in a flow's packets is the same in each of them, and is summed up
 * once, in prepare_checksums.
 */
#ifndef QUICPIPE_REWRITE_H
#define QUICPIPE_REWRITE_H

#include "quicpipe_parse.h"

#define WITHOUT_ONE_HOP QUICPIPE_BE16(0xfeff) // ~m + m' where a TTL is one less

QUICPIPE_INLINE __u16 fold(__u32 sum)
{
    sum = (sum & 0xffff) + (sum >> 16);
    return (sum & 0xffff) + (sum >> 16);
}

QUICPIPE_INLINE __u32 sum_of(const struct quicpipe_address *address, int sign)
{
    __u32 sum = 0;
    int i;

#pragma unroll
    for (i = 0; i < 4; i++) {
        __u32 word = sign > 0 ? address->words[i] : ~address->words[i];
        sum += (word & 0xffff) + (word >> 16);
    }
    return sum;
}

QUICPIPE_INLINE __u16 changed(__u16 check, __u16 change)
{
    return ~fold((__u16)~check + (__u32)change);
}

QUICPIPE_INLINE void copy_mac(void *to, const void *from)
{
    __u16 *target = to;
    const __u16 *origin = from;

    target[0] = origin[0];
    target[1] = origin[1];
    target[2] = origin[2];
}

QUICPIPE_INLINE int is_mapped(const __be32 words[4])
{
    return !words[0] && !words[1] && words[2] == QUICPIPE_BE32(0xffff);
}

QUICPIPE_INLINE int same_host(const __be32 a[4], const __be32 b[4])
{
    return !((a[0] ^ b[0]) | (a[1] ^ b[1]) | (a[2] ^ b[2]) | (a[3] ^ b[3]));
}

QUICPIPE_INLINE int same_address(const struct quicpipe_address *a, const struct quicpipe_address *b)
{
    return same_host(a->words, b->words) && a->port == b->port;
}

enum end { FROM, TO };

QUICPIPE_INLINE void address_of(const struct quicpipe_packet *packet, enum end end,
                                struct quicpipe_address *address)
{
    if (packet->is_ipv4) {
        address->words[0] = 0;
        address->words[1] = 0;
        address->words[2] = QUICPIPE_BE32(0xffff);
        address->words[3] = end == FROM ? packet->ipv4->saddr : packet->ipv4->daddr;
    } else {
        const void *host = end == FROM ? &packet->ipv6->saddr : &packet->ipv6->daddr;
        __builtin_memcpy(address->words, host, sizeof(address->words));
    }
    address->port = end == FROM ? packet->udp->source : packet->udp->dest;
    address->zero = 0;
}

// What makes the checksums of a packet that goes to `from` lead to `to`. The relay's own address
// and port only change places, which no sum notices.
QUICPIPE_INLINE void prepare_checksums(const struct quicpipe_address *from,
                                       const struct quicpipe_address *to,
                                       struct quicpipe_flow *flow)
{
    __u32 hosts = fold(sum_of(from, -1) + sum_of(to, +1));
    __u32 ports = (__u16)~from->port + (__u32)to->port;

    flow->ip_change = fold(hosts + WITHOUT_ONE_HOP);
    flow->udp_change = fold(hosts + ports);
}

// A sender that leaves checksums to a network card writes the sum of the pseudo-header there, and on
// a virtual link no card ever comes: userspace, which is told, has it completed. Asked only where
// nothing is remembered, as a sender leaves either all of them or none. One packet in 65,536 has it
// by chance, and loses nothing by it.
QUICPIPE_INLINE int has_half_checksum(const struct quicpipe_packet *packet,
                                      const struct quicpipe_address *source,
                                      const struct quicpipe_address *relay)
{
    __u32 sum = sum_of(source, +1) + sum_of(relay, +1) + packet->udp->len;

    sum += QUICPIPE_BE16(IPPROTO_UDP);
    // Of IPv4-mapped addresses the prefix counts too: 0xffff twice, which is nothing in this sum.
    return packet->udp->check == fold(sum);
}

QUICPIPE_INLINE void rewrite(const struct quicpipe_packet *packet,
                             const struct quicpipe_binding *binding,
                             const struct quicpipe_flow *flow)
{
    __u16 check = packet->udp->check;

    copy_mac(packet->ethernet->h_source, packet->ethernet->h_dest);
    copy_mac(packet->ethernet->h_dest, flow->next_hop);
    if (packet->is_ipv4) {
        packet->ipv4->saddr = packet->ipv4->daddr;
        packet->ipv4->daddr = binding->to.words[3];
        packet->ipv4->ttl--;
        packet->ipv4->check = changed(packet->ipv4->check, flow->ip_change);
    } else {
        packet->ipv6->saddr = packet->ipv6->daddr;
        __builtin_memcpy(&packet->ipv6->daddr, binding->to.words, sizeof(binding->to.words));
        packet->ipv6->hop_limit--;
    }
    packet->udp->source = packet->udp->dest;
    packet->udp->dest = binding->to.port;
    if (check) { // else there is none, on IPv4
        check = changed(check, flow->udp_change);
        packet->udp->check = check ? check : 0xffff; // RFC 768: 0 means none
    }
}

#endif
