// SPDX-License-Identifier: MIT
//
// The ends of the XDP filter's benchmark: what stands in for it, and what receives.
//
// Input:    any frame that arrives on one end of a veth pair.
// Verdict:  sink       XDP_DROP for the benchmark's datagrams, which have been relayed: they are
//                      counted, with the time that it took. XDP_PASS for all else.
//           refuse     XDP_DROP for the same datagrams, XDP_PASS for all else.
//           reflect    XDP_TX for the same datagrams, with the MAC addresses swapped, the
//                      least that anything can do which sends back; XDP_PASS for all else.
//
// A datagram carries the time of CLOCK_MONOTONIC at which it was sent, in nanoseconds, 16 bytes
// after its beginning; 0 where nobody wants to know.

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>
#include <uapi/linux/ip.h>
#include <uapi/linux/udp.h>

#define BUCKET_NS 100
#define BUCKETS 262144
#define DATAGRAM_BYTES 1200
#define FIRST_BYTE 0x41

struct headers {
    struct ethhdr ethernet;
    struct iphdr ip;
    struct udphdr udp;
    __u8 payload[16];
    __u64 sent_ns;
} __attribute__((packed));

BPF_PERCPU_ARRAY(arrived, u64, 1);
BPF_F_TABLE("array", u32, u64, delays, BUCKETS, BPF_F_MMAPABLE); // the last is for all longer ones

static __always_inline struct headers *datagram(struct xdp_md *context)
{
    struct headers *headers = (void *)(long)context->data;

    if ((void *)(headers + 1) > (void *)(long)context->data_end)
        return 0;
    if (headers->ethernet.h_proto != bpf_htons(ETH_P_IP) || headers->ip.protocol != 17)
        return 0;
    if (headers->udp.len != bpf_htons(DATAGRAM_BYTES + sizeof(struct udphdr)))
        return 0;
    return headers->payload[0] == FIRST_BYTE ? headers : 0; // and none of the relay's own words
}

int sink(struct xdp_md *context)
{
    struct headers *headers = datagram(context);
    __u64 *count, *delay, took_ns;
    __u32 zero = 0, bucket;

    if (!headers)
        return XDP_PASS;
    count = arrived.lookup(&zero);
    if (count)
        *count += 1;
    if (headers->sent_ns) {
        took_ns = bpf_ktime_get_ns() - headers->sent_ns;
        bucket = took_ns / BUCKET_NS < BUCKETS ? took_ns / BUCKET_NS : BUCKETS - 1;
        delay = delays.lookup(&bucket);
        if (delay)
            __sync_fetch_and_add(delay, 1);
    }
    return XDP_DROP;
}

int refuse(struct xdp_md *context)
{
    return datagram(context) ? XDP_DROP : XDP_PASS;
}

int reflect(struct xdp_md *context)
{
    struct headers *headers = datagram(context);
    __u8 mac[6];

    if (!headers)
        return XDP_PASS;
    __builtin_memcpy(mac, headers->ethernet.h_dest, 6);
    __builtin_memcpy(headers->ethernet.h_dest, headers->ethernet.h_source, 6);
    __builtin_memcpy(headers->ethernet.h_source, mac, 6);
    return XDP_TX;
}
