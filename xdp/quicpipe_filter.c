// SPDX-License-Identifier: MIT OR GPL-2.0-only
//
// The relay in the kernel: sends on what is bound, and leaves everything else to userspace.
//
// Input:    any frame that arrives on an interface that the filter is attached to.
// Verdict:  XDP_TX    a short-header QUIC packet (RFC 9000, 17.3) over UDP, IPv4 with or without
//                     options or IPv6, to a port and an address of the relay, whose destination
//                     connection ID is bound, from a sender that is bound too. It leaves by the
//                     interface that it came by, towards the address that its ID is bound to,
//                     with the relay's address as its source. TTL or hop limit is one less;
//                     ECN, DSCP, DF, IP options, VLAN tags and the payload are as they were.
//           XDP_DROP  an unbound one, where there are more of them than userspace asked for.
//           XDP_PASS  all else: nothing is dropped or changed that is not certainly the relay's.
//
// The decision is the twin of Forwarder.resolve in protocol/forwarding.py. What it comes to is kept
// for about a second in the binding's record (struct quicpipe_flow), and which binding an ID has is
// guessed before it is looked up. Guesses and memories are compared with what userspace says each
// time (the ID, the tags of binding and sender, the sender's address), so a packet usually needs no
// hash table, which is what costs here, and nothing stale is ever followed.
//
// Needs Linux 5.11 (bpf_ktime_get_coarse_ns; BPF_LINK_CREATE for XDP is of 5.9).

#define BPF_LICENSE Dual MIT/GPL // bpf_fib_lookup is for GPL-compatible programs alone

#include <uapi/linux/bpf.h>
#include "quicpipe_parse.h"
#include "quicpipe_rewrite.h"

// ---- Maps. Memory for n bindings on c possible CPUs, all of it taken when the filter is loaded:
// n * (153 + 64 * c) bytes for IDs, bindings and flows; n * (105 + 64 * c) for as many senders;
// 64 kB * c for hints; 2 MB for the rest. Arrays "by CPU" are our own and not the kernel's, at
// cpu * n + slot: a CPU writes its own part alone, and userspace has all of it mapped.

// Which slot an ID has. No LRU: where it is full, newcomers stay with userspace.
BPF_F_TABLE("hash", struct quicpipe_id, u32, slots, QUICPIPE_CAPACITY, 0);
BPF_F_TABLE("array", u32, struct quicpipe_hint, hints, QUICPIPE_HINTS * QUICPIPE_CPUS, 0); // by CPU
BPF_F_TABLE("array", u32, struct quicpipe_binding, bindings, QUICPIPE_CAPACITY, BPF_F_MMAPABLE);
BPF_F_TABLE("array", u32, struct quicpipe_flow, flows, QUICPIPE_CAPACITY * QUICPIPE_CPUS,
            BPF_F_MMAPABLE); // by CPU

// Which addresses have bindings.
BPF_F_TABLE("hash", struct quicpipe_address, struct quicpipe_source, sources, QUICPIPE_CAPACITY, 0);
BPF_F_TABLE("array", u32, struct quicpipe_sender, senders, QUICPIPE_CAPACITY * QUICPIPE_CPUS,
            BPF_F_MMAPABLE); // by CPU

// Addresses that are never sent to: the relay's own.
BPF_F_TABLE("hash", struct quicpipe_address, u32, own, 256, 0);

// IDs that were reported not to be bound, and the reports.
BPF_F_TABLE("lru_hash", struct quicpipe_id, u32, reported, 16384, 0);
BPF_RINGBUF_OUTPUT(rejected, 16);

BPF_F_TABLE("array", u32, struct quicpipe_config, config, 1, BPF_F_MMAPABLE);
BPF_F_TABLE("hash", u32, u32, layer2, 64, 0); // by interface, enum quicpipe_layer2
BPF_F_TABLE("percpu_array", u32, struct quicpipe_bucket, unbound, 1, 0);
BPF_F_TABLE("percpu_array", u32, u64, counters, QUICPIPE_REASONS, 0); // by enum quicpipe_reason

#define ROUTE_LIFE_BITS 30 // of nanoseconds: about a second

// ---- Whether it is the relay's, and whose

QUICPIPE_INLINE int is_ours(const struct quicpipe_config *config,
                            const struct quicpipe_packet *packet)
{
    const __be32 *to;
    int i;

    if (packet->ethernet->h_dest[0] & 1) // to a group: no address to answer from
        return 0;
    // Address 0 is nobody's; in the configuration it stands where there are fewer than 8 hosts.
    if (packet->is_ipv4) {
        if (!packet->ipv4->daddr)
            return 0;
#pragma unroll
        for (i = 0; i < QUICPIPE_HOSTS; i++)
            if (config->hosts4[i] == packet->ipv4->daddr)
                return 1;
    } else {
        to = packet->ipv6->daddr.in6_u.u6_addr32;
        if (!(to[0] | to[1] | to[2] | to[3]))
            return 0;
#pragma unroll
        for (i = 0; i < QUICPIPE_HOSTS; i++)
            if (same_host(config->hosts6[i], to))
                return 1;
    }
    return config->any_host;
}

#define ID_WORDS (QUICPIPE_ID_BYTES / 4)

QUICPIPE_INLINE int same_id(const struct quicpipe_id *a, const struct quicpipe_id *b)
{
    const __u32 *words_a = (const void *)a, *words_b = (const void *)b;
    __u32 differ = 0;
    int i;

#pragma unroll
    for (i = 0; i < ID_WORDS; i++)
        differ |= words_a[i] ^ words_b[i];
#pragma unroll
    for (i = ID_WORDS * 4; i < QUICPIPE_ID_BYTES; i++)
        differ |= a->bytes[i] ^ b->bytes[i];
    return !differ;
}

QUICPIPE_INLINE struct quicpipe_binding *binding_in(__u32 slot, const struct quicpipe_id *id)
{
    struct quicpipe_binding *binding = bindings.lookup(&slot);

    return binding && binding->tag && same_id(&binding->id, id) ? binding : 0;
}

// By the guess of this CPU, if it is right, else by the table. IDs are hashes (protocol/
// connection_id.py), so some of their bits are as good as any hash of them.
QUICPIPE_INLINE struct quicpipe_binding *find_binding(struct quicpipe_id *id, __u32 *slot)
{
    const __u32 *words = (const void *)id;
    __u32 at = bpf_get_smp_processor_id() * QUICPIPE_HINTS +
               (words[ID_WORDS - 1] & (QUICPIPE_HINTS - 1));
    struct quicpipe_hint *hint = hints.lookup(&at);
    struct quicpipe_binding *binding;
    __u32 *found;

    if (!hint)
        return 0;
    if (hint->first == words[0]) {
        *slot = hint->slot;
        binding = binding_in(*slot, id);
        if (binding)
            return binding;
    }
    found = slots.lookup(id);
    if (!found)
        return 0;
    *slot = *found;
    hint->first = words[0];
    hint->slot = *slot;
    return binding_in(*slot, id);
}

// ---- Unbound IDs

QUICPIPE_INLINE void report(const struct quicpipe_packet *packet)
{
    struct quicpipe_rejected rejection = {};
    __u32 yes = 1;

    rejection.id = *packet->id;
    if (reported.lookup(&rejection.id))
        return;
    address_of(packet, FROM, &rejection.source);
    if (rejected.ringbuf_output(&rejection, sizeof(rejection), 0) == 0)
        reported.update(&rejection.id, &yes);
}

// Reported and passed as long as there is an allowance left.
QUICPIPE_INLINE enum quicpipe_reason not_bound(const struct quicpipe_config *config,
                                               const struct quicpipe_packet *packet)
{
    struct quicpipe_bucket *bucket;
    __u32 zero = 0;
    __u64 now_ns;

    if (config->unbound_interval_ns) {
        bucket = unbound.lookup(&zero);
        if (!bucket)
            return QUICPIPE_UNBOUND;
        now_ns = bpf_ktime_get_ns();
        bucket->tokens_ns += now_ns - bucket->updated_ns;
        bucket->updated_ns = now_ns;
        if (bucket->tokens_ns > config->unbound_burst_ns)
            bucket->tokens_ns = config->unbound_burst_ns;
        if (bucket->tokens_ns < config->unbound_interval_ns)
            return QUICPIPE_UNBOUND_FLOOD;
        bucket->tokens_ns -= config->unbound_interval_ns;
    }
    report(packet);
    return QUICPIPE_UNBOUND;
}

// ---- The decision where nothing is remembered

// Sets the flow's next hop, if it is reached by the interface that the packet came by.
QUICPIPE_INLINE enum quicpipe_reason find_next_hop(struct xdp_md *context,
                                                   const struct quicpipe_packet *packet,
                                                   const struct quicpipe_binding *binding,
                                                   struct quicpipe_flow *flow)
{
    __u32 interface = context->ingress_ifindex;
    __u32 *how = layer2.lookup(&interface);
    struct bpf_fib_lookup route = {};

    if (!how)
        return QUICPIPE_NO_ROUTE;
    if (*how == QUICPIPE_SWAP) {
        copy_mac(flow->next_hop, packet->ethernet->h_source);
        return QUICPIPE_FORWARDED;
    }
    // Routes by this interface are for frames without a tag; those of a VLAN are by another one.
    if (quicpipe_is_vlan(packet->ethernet->h_proto))
        return QUICPIPE_NO_ROUTE;
    route.ifindex = interface;
    route.l4_protocol = IPPROTO_UDP;
    route.tot_len = packet->ip_bytes;
    if (packet->is_ipv4) {
        route.family = 2; // AF_INET
        route.tos = packet->ipv4->tos;
        route.ipv4_src = packet->ipv4->daddr;
        route.ipv4_dst = binding->to.words[3];
    } else {
        route.family = 10; // AF_INET6
        __builtin_memcpy(route.ipv6_src, &packet->ipv6->daddr, sizeof(route.ipv6_src));
        __builtin_memcpy(route.ipv6_dst, binding->to.words, sizeof(route.ipv6_dst));
    }
    if (bpf_fib_lookup(context, &route, sizeof(route), 0) != BPF_FIB_LKUP_RET_SUCCESS)
        return QUICPIPE_NO_ROUTE;
    if (route.ifindex != interface)
        return QUICPIPE_NO_ROUTE;
    copy_mac(flow->next_hop, route.dmac);
    return QUICPIPE_FORWARDED;
}

QUICPIPE_INLINE enum quicpipe_reason decide(struct xdp_md *context,
                                            const struct quicpipe_packet *packet,
                                            const struct quicpipe_binding *binding,
                                            struct quicpipe_flow *flow)
{
    struct quicpipe_address from, to_relay;
    struct quicpipe_source *source;
    enum quicpipe_reason reason;
    __u32 tag = binding->tag; // first: what is read of a slot that changes hands now is void by it

    flow->tag = 0;
    address_of(packet, FROM, &from);
    address_of(packet, TO, &to_relay);
    if (!packet->is_ipv4 && is_mapped(from.words))
        return QUICPIPE_SOURCE_NOT_BOUND; // one of IPv6, who looks like one of IPv4
    source = sources.lookup(&from);
    if (!source)
        return QUICPIPE_SOURCE_NOT_BOUND;
    if (same_address(&binding->to, &from) || same_address(&binding->to, &to_relay))
        return QUICPIPE_LOOP;
    if (own.lookup((struct quicpipe_address *)&binding->to))
        return QUICPIPE_LOOP;
    if (is_mapped(binding->to.words) != (int)packet->is_ipv4)
        return QUICPIPE_OTHER_FAMILY;
    if (source->passing)
        return QUICPIPE_RATE_LIMITED;
    if (has_half_checksum(packet, &from, &to_relay))
        return QUICPIPE_HALF_CHECKSUM;
    reason = find_next_hop(context, packet, binding, flow);
    if (reason != QUICPIPE_FORWARDED)
        return reason;
    prepare_checksums(&from, &binding->to, flow);
    flow->sender = source->slot;
    flow->sender_tag = source->tag;
    flow->interface = context->ingress_ifindex;
    flow->is_ipv4 = packet->is_ipv4;
    flow->tag = tag;
    return QUICPIPE_FORWARDED;
}

// ---- What is remembered

// Whether the flow was decided for such a packet.
QUICPIPE_INLINE int is_known(struct xdp_md *context, const struct quicpipe_packet *packet,
                             const struct quicpipe_binding *binding,
                             const struct quicpipe_flow *flow,
                             const struct quicpipe_sender *sender)
{
    if (flow->tag != binding->tag || flow->sender_tag != sender->tag ||
        flow->interface != context->ingress_ifindex || flow->is_ipv4 != packet->is_ipv4 ||
        sender->address.port != packet->udp->source)
        return 0;
    if (packet->is_ipv4)
        return sender->address.words[3] == packet->ipv4->saddr;
    return same_host(sender->address.words, packet->ipv6->saddr.in6_u.u6_addr32);
}

QUICPIPE_INLINE void count(struct quicpipe_flow *flow, struct quicpipe_sender *sender, __u32 bytes)
{
    flow->packets++;
    flow->bytes += bytes;
    sender->packets++;
    sender->bytes += bytes;
}

QUICPIPE_INLINE struct quicpipe_sender *sender_of(const struct quicpipe_flow *flow)
{
    __u32 at = bpf_get_smp_processor_id() * QUICPIPE_CAPACITY + flow->sender;

    return senders.lookup(&at);
}

QUICPIPE_INLINE enum quicpipe_reason relay(struct xdp_md *context,
                                           const struct quicpipe_packet *packet,
                                           const struct quicpipe_binding *binding, __u32 slot)
{
    __u32 at = bpf_get_smp_processor_id() * QUICPIPE_CAPACITY + slot;
    struct quicpipe_flow *flow = flows.lookup(&at);
    struct quicpipe_sender *sender;
    enum quicpipe_reason reason;
    __u32 jiffies;
    __u64 now_ns = 0;

    if (!flow || !(sender = sender_of(flow)))
        return QUICPIPE_UNBOUND;
    // To read the clock is the dearest thing here, and it stands still for a jiffy.
    jiffies = bpf_jiffies64();
    if (flow->jiffies != jiffies) {
        now_ns = bpf_ktime_get_coarse_ns();
        if (now_ns >> ROUTE_LIFE_BITS != flow->last_seen_ns >> ROUTE_LIFE_BITS)
            flow->tag = 0;
    }
    if (!is_known(context, packet, binding, flow, sender)) {
        reason = decide(context, packet, binding, flow);
        if (reason != QUICPIPE_FORWARDED)
            return reason;
        sender = sender_of(flow);
        if (!sender)
            return QUICPIPE_UNBOUND;
        now_ns = bpf_ktime_get_coarse_ns();
    }
    if (now_ns) {
        flow->jiffies = jiffies;
        flow->last_seen_ns = now_ns;
        sender->last_seen_ns = now_ns;
    }
    count(flow, sender, packet->udp_bytes);
    rewrite(packet, binding, flow);
    return QUICPIPE_FORWARDED;
}

QUICPIPE_INLINE enum quicpipe_reason judge(struct xdp_md *context)
{
    struct quicpipe_cursor cursor = {(void *)(long)context->data, (void *)(long)context->data_end};
    struct quicpipe_packet packet = {};
    struct quicpipe_binding *binding;
    struct quicpipe_config *now;
    enum quicpipe_reason reason;
    __u16 port;
    __u32 slot = 0;
    __u32 zero = 0;

    reason = quicpipe_parse_udp(&cursor, &packet);
    if (reason != QUICPIPE_FORWARDED)
        return reason;
    now = config.lookup(&zero);
    if (!now)
        return QUICPIPE_OTHER_PORT;
    port = QUICPIPE_BE16(packet.udp->dest);
    if (!(now->ports[port / 64] >> (port % 64) & 1))
        return QUICPIPE_OTHER_PORT;
    if (!is_ours(now, &packet))
        return QUICPIPE_OTHER_HOST;
    reason = quicpipe_parse_quic(&cursor, &packet);
    if (reason != QUICPIPE_FORWARDED)
        return reason;
    binding = find_binding(packet.id, &slot);
    if (!binding)
        return not_bound(now, &packet);
    if (packet.ip_bytes > now->max_packet_bytes)
        return QUICPIPE_TOO_BIG;
    reason = quicpipe_parse_limits(&packet);
    if (reason != QUICPIPE_FORWARDED)
        return reason;
    return relay(context, &packet, binding, slot);
}

int quicpipe_filter(struct xdp_md *context)
{
    __u32 reason = judge(context);
    __u64 *counter = counters.lookup(&reason);

    if (counter)
        (*counter)++;
    if (reason == QUICPIPE_FORWARDED)
        return XDP_TX;
    return reason == QUICPIPE_UNBOUND_FLOOD ? XDP_DROP : XDP_PASS;
}
