/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * From a frame to what the decision needs, with one cursor that is checked before each step.
 *
 * Input:   an Ethernet frame from its first byte on, of any length.
 * Output:  QUICPIPE_FORWARDED where nothing speaks against forwarding so far, and `packet` filled;
 *          else the reason why this packet is none of the filter's business.
 *
 * Compiles as BPF and on any host; tests/xdp compares it there with a parser in Python.
 */
#ifndef QUICPIPE_PARSE_H
#define QUICPIPE_PARSE_H

#include "quicpipe_shared.h"

#ifdef __KERNEL__
#include <uapi/linux/if_ether.h>
#include <uapi/linux/in.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/ipv6.h>
#include <uapi/linux/udp.h>
#else
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <linux/udp.h>
#endif

#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define QUICPIPE_BE16(number) ((__u16)__builtin_bswap16(number))
#define QUICPIPE_BE32(number) ((__u32)__builtin_bswap32(number))
#else
#define QUICPIPE_BE16(number) ((__u16)(number))
#define QUICPIPE_BE32(number) ((__u32)(number))
#endif

#define QUICPIPE_INLINE static inline __attribute__((always_inline))

#define QUICPIPE_FRAGMENT_BITS 0x3fff /* of iphdr.frag_off: more fragments, and the offset */
#define QUICPIPE_LONG_BIT 0x80  /* of the first byte of a QUIC packet (RFC 9000, 17.2 and 17.3) */
#define QUICPIPE_FIXED_BIT 0x40
#define QUICPIPE_RELAY_BIT 0x80 /* of an ID's first byte: protocol/connection_id.py */
#define QUICPIPE_VLAN_TAGS 2

struct quicpipe_vlan { /* what follows a VLAN's Ethernet type (IEEE 802.1Q, 9.6) */
    __be16 control;
    __be16 type;
};

struct quicpipe_packet {
    struct ethhdr *ethernet;
    union {
        struct iphdr *ipv4;
        struct ipv6hdr *ipv6;
    };
    struct udphdr *udp;
    struct quicpipe_id *id;
    __u32 is_ipv4;   /* a number, for the verifier loses sight of pointers that may be null */
    __u32 ip_bytes;  /* length of the IP packet */
    __u32 udp_bytes; /* length of the UDP payload */
};

struct quicpipe_cursor {
    void *next;
    void *end;
};

/* The next bytes if there are so many; null if not. */
QUICPIPE_INLINE void *quicpipe_take(struct quicpipe_cursor *cursor, __u32 size)
{
    void *start = cursor->next;

    if (start + size > cursor->end)
        return 0;
    cursor->next = start + size;
    return start;
}

QUICPIPE_INLINE enum quicpipe_reason quicpipe_parse_ipv4(struct quicpipe_cursor *cursor,
                                                         struct quicpipe_packet *packet)
{
    void *start = cursor->next;
    struct iphdr *ip = quicpipe_take(cursor, sizeof(*ip));
    __u32 header_bytes;

    if (!ip || ip->version != 4)
        return QUICPIPE_NOT_IP;
    header_bytes = ip->ihl * 4u;
    packet->ip_bytes = QUICPIPE_BE16(ip->tot_len);
    if (header_bytes < sizeof(*ip) || packet->ip_bytes < header_bytes)
        return QUICPIPE_MALFORMED;
    if (packet->ip_bytes > (__u32)(cursor->end - start))
        return QUICPIPE_MALFORMED;
    if (ip->protocol != IPPROTO_UDP)
        return QUICPIPE_NOT_UDP;
    if (ip->frag_off & QUICPIPE_BE16(QUICPIPE_FRAGMENT_BITS))
        return QUICPIPE_FRAGMENT;
    if (!quicpipe_take(cursor, header_bytes - sizeof(*ip))) /* options */
        return QUICPIPE_MALFORMED;
    packet->ipv4 = ip;
    packet->is_ipv4 = 1;
    packet->udp_bytes = packet->ip_bytes - header_bytes;
    return QUICPIPE_FORWARDED;
}

QUICPIPE_INLINE enum quicpipe_reason quicpipe_parse_ipv6(struct quicpipe_cursor *cursor,
                                                         struct quicpipe_packet *packet)
{
    struct ipv6hdr *ip = quicpipe_take(cursor, sizeof(*ip));

    if (!ip || ip->version != 6)
        return QUICPIPE_NOT_IP;
    switch (ip->nexthdr) {
    case IPPROTO_UDP:
        break;
    case IPPROTO_FRAGMENT:
        return QUICPIPE_FRAGMENT;
    case IPPROTO_HOPOPTS:
    case IPPROTO_ROUTING:
    case IPPROTO_DSTOPTS:
    case IPPROTO_MH:
    case IPPROTO_AH:
        return QUICPIPE_EXTENSION_HEADER;
    default:
        return QUICPIPE_NOT_UDP;
    }
    packet->udp_bytes = QUICPIPE_BE16(ip->payload_len);
    packet->ip_bytes = packet->udp_bytes + sizeof(*ip);
    if (packet->udp_bytes > (__u32)(cursor->end - cursor->next))
        return QUICPIPE_MALFORMED;
    packet->ipv6 = ip;
    packet->is_ipv4 = 0;
    return QUICPIPE_FORWARDED;
}

QUICPIPE_INLINE int quicpipe_is_vlan(__be16 type)
{
    return type == QUICPIPE_BE16(ETH_P_8021Q) || type == QUICPIPE_BE16(ETH_P_8021AD);
}

/* As far as UDP's header. */
QUICPIPE_INLINE enum quicpipe_reason quicpipe_parse_udp(struct quicpipe_cursor *cursor,
                                                        struct quicpipe_packet *packet)
{
    enum quicpipe_reason reason;
    struct quicpipe_vlan *vlan;
    __be16 type;
    int tag;

    packet->ethernet = quicpipe_take(cursor, sizeof(*packet->ethernet));
    if (!packet->ethernet)
        return QUICPIPE_NOT_IP;
    type = packet->ethernet->h_proto;
    for (tag = 0; tag < QUICPIPE_VLAN_TAGS; tag++) {
        if (!quicpipe_is_vlan(type))
            break;
        vlan = quicpipe_take(cursor, sizeof(*vlan));
        if (!vlan)
            return QUICPIPE_NOT_IP;
        type = vlan->type;
    }
    if (type == QUICPIPE_BE16(ETH_P_IP))
        reason = quicpipe_parse_ipv4(cursor, packet);
    else if (type == QUICPIPE_BE16(ETH_P_IPV6))
        reason = quicpipe_parse_ipv6(cursor, packet);
    else
        reason = QUICPIPE_NOT_IP;
    if (reason != QUICPIPE_FORWARDED)
        return reason;

    packet->udp = quicpipe_take(cursor, sizeof(*packet->udp));
    if (!packet->udp || packet->udp_bytes < sizeof(*packet->udp))
        return QUICPIPE_MALFORMED;
    if (QUICPIPE_BE16(packet->udp->len) != packet->udp_bytes)
        return QUICPIPE_MALFORMED;
    packet->udp_bytes -= sizeof(*packet->udp);
    return QUICPIPE_FORWARDED;
}

/* From behind UDP's header: whether this is a short header with a peer connection's ID. */
QUICPIPE_INLINE enum quicpipe_reason quicpipe_parse_quic(struct quicpipe_cursor *cursor,
                                                         struct quicpipe_packet *packet)
{
    __u8 *first = quicpipe_take(cursor, sizeof(*first));

    if (!first || packet->udp_bytes < sizeof(*first) || !(*first & QUICPIPE_FIXED_BIT))
        return QUICPIPE_NOT_QUIC;
    if (*first & QUICPIPE_LONG_BIT)
        return QUICPIPE_LONG_HEADER;
    packet->id = quicpipe_take(cursor, sizeof(*packet->id));
    if (!packet->id || packet->udp_bytes < sizeof(*first) + sizeof(*packet->id))
        return QUICPIPE_NOT_QUIC;
    if (packet->id->bytes[0] & QUICPIPE_RELAY_BIT)
        return QUICPIPE_TO_RELAY;
    return QUICPIPE_FORWARDED;
}

/* The last checks, for packets that are the relay's by their port. */
QUICPIPE_INLINE enum quicpipe_reason quicpipe_parse_limits(const struct quicpipe_packet *packet)
{
    if ((packet->is_ipv4 ? packet->ipv4->ttl : packet->ipv6->hop_limit) <= 1)
        return QUICPIPE_TTL_EXPIRED;
    if (!packet->is_ipv4 && !packet->udp->check)
        return QUICPIPE_ZERO_CHECKSUM;
    return QUICPIPE_FORWARDED;
}

#endif
