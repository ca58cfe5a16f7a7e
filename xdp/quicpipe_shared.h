/* SPDX-License-Identifier: MIT OR GPL-2.0-only */
/*
 * What the filter and the program that loads it must agree on: the reasons, and the layout of what
 * lies in maps. The Python side is quicpipe_lab/shell/xdp_layout.py; a test compares the two.
 *
 * Numbers that travel (addresses, ports) are in network byte order, all others in the machine's.
 */
#ifndef QUICPIPE_SHARED_H
#define QUICPIPE_SHARED_H

#ifdef __KERNEL__ /* compiled by bcc */
#include <uapi/linux/types.h>
#else
#include <linux/types.h>
#endif

#ifndef QUICPIPE_ID_BYTES
#define QUICPIPE_ID_BYTES 12
#endif

#define QUICPIPE_HINTS 8192   /* for each CPU, a power of two */
#define QUICPIPE_HOSTS 8      /* addresses of the relay, of each IP version */
#define QUICPIPE_PORT_WORDS 1024 /* 65,536 ports, a bit each */

/*
 * What became of a packet. 0 to 9 are those of protocol/forwarding.py; the filter never says
 * PUNCH, NOT_INITIAL or BUSY, as only userspace can tell. The first leaves through the interface
 * that it came by, UNBOUND_FLOOD is dropped, all others go up to the kernel's network stack.
 */
enum quicpipe_reason {
    QUICPIPE_FORWARDED = 0,
    QUICPIPE_TO_RELAY = 1,         /* the ID's high bit is set: a connection with the relay */
    QUICPIPE_NOT_QUIC = 2,         /* too short, or without the fixed bit */
    QUICPIPE_PUNCH = 3,
    QUICPIPE_UNBOUND = 4,          /* nothing is known of the ID here */
    QUICPIPE_SOURCE_NOT_BOUND = 5, /* the relay is closed */
    QUICPIPE_LOOP = 6,             /* back to its sender or to the relay */
    QUICPIPE_RATE_LIMITED = 7,     /* of a sender that userspace wants to see itself */
    QUICPIPE_NOT_INITIAL = 8,
    QUICPIPE_BUSY = 9,
    QUICPIPE_LONG_HEADER = 10,     /* a handshake: userspace's */
    QUICPIPE_NOT_IP = 11,          /* ARP, three VLAN tags, too short a frame, ... */
    QUICPIPE_NOT_UDP = 12,
    QUICPIPE_OTHER_PORT = 13,      /* not one of the relay's */
    QUICPIPE_OTHER_HOST = 14,      /* the relay's port on an address that is not its own */
    QUICPIPE_MALFORMED = 15,       /* lengths that contradict each other */
    QUICPIPE_FRAGMENT = 16,
    QUICPIPE_EXTENSION_HEADER = 17, /* of IPv6, other than a fragment's */
    QUICPIPE_TTL_EXPIRED = 18,     /* TTL or hop limit of 1 or 0 */
    QUICPIPE_ZERO_CHECKSUM = 19,   /* which only IPv4 allows */
    QUICPIPE_HALF_CHECKSUM = 20,   /* the sender left it to a network card that never saw it */
    QUICPIPE_OTHER_FAMILY = 21,    /* bound to an address of the other IP version */
    QUICPIPE_NO_ROUTE = 22,        /* or one by another interface, or a neighbour not yet known */
    QUICPIPE_TOO_BIG = 23,         /* for the interface */
    QUICPIPE_UNBOUND_FLOOD = 24,   /* as UNBOUND, beyond the rate: dropped */
    QUICPIPE_REASONS = 25,
};

enum quicpipe_layer2 {
    QUICPIPE_SWAP = 1,   /* a point-to-point link: back to the MAC address it came from */
    QUICPIPE_ROUTED = 2, /* the kernel's routes and neighbours say which */
};

struct quicpipe_id {
    __u8 bytes[QUICPIPE_ID_BYTES];
};

struct quicpipe_address { /* IPv4 as IPv4-mapped IPv6 (RFC 4291, 2.5.5.2) */
    __be32 words[4];
    __be16 port;
    __u16 zero;
};

/* Tags are never used twice, and never 0: they tell a slot's user from the one before. */

/* One binding, in its slot. Userspace writes all of it before the slot can be found, and never
 * changes it then, but for the tag. */
struct quicpipe_binding {
    struct quicpipe_address to;
    __u32 tag; /* 0: no longer bound */
    struct quicpipe_id id;
    __u8 unused[40 - QUICPIPE_ID_BYTES];
};

/* One CPU's guess which slot an ID has. */
struct quicpipe_hint {
    __u32 first; /* bytes of the ID */
    __u32 slot;
};

struct quicpipe_source {
    __u32 slot;
    __u32 tag;
    __u32 passing; /* 1: its packets go up to userspace */
};

/* One CPU's record of one binding: a cache line. What was decided last, and is remembered. */
struct quicpipe_flow {
    __u64 packets;
    __u64 bytes;        /* UDP payload, as userspace counts */
    __u64 last_seen_ns; /* CLOCK_MONOTONIC_COARSE */
    __u32 jiffies;      /* when that clock was read last */
    __u32 tag;          /* of the binding */
    __u32 sender;       /* slot */
    __u32 sender_tag;
    __u32 interface;
    __u16 is_ipv4;
    __be16 next_hop[3]; /* MAC address */
    __u16 ip_change;    /* to add to the one's complement of the checksums */
    __u16 udp_change;
    __u32 unused;
};

/* One CPU's record of one sender: a cache line. The address and the tag are userspace's to write. */
struct quicpipe_sender {
    __u64 packets;
    __u64 bytes;
    __u64 last_seen_ns;
    struct quicpipe_address address;
    __u32 tag; /* 0: its packets are not forwarded here */
    __u32 unused[4];
};

/* One CPU's allowance for unbound IDs. */
struct quicpipe_bucket {
    __u64 tokens_ns; /* time that has been saved up: each packet costs unbound_interval_ns */
    __u64 updated_ns;
};

/* What userspace says; it alone writes here. */
struct quicpipe_config {
    __u64 ports[QUICPIPE_PORT_WORDS];
    __be32 hosts4[QUICPIPE_HOSTS];
    __be32 hosts6[QUICPIPE_HOSTS][4];
    __u32 any_host;            /* 1: no address was named */
    __u32 max_packet_bytes;    /* IP, the least MTU of the interfaces */
    __u64 unbound_interval_ns; /* 0: nothing is ever dropped */
    __u64 unbound_burst_ns;
};

struct quicpipe_rejected {
    struct quicpipe_id id;
    struct quicpipe_address source;
};

#endif
