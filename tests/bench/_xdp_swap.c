// SPDX-License-Identifier: MIT
//
// The least that a program can do to send a packet back: what the filter is measured against.
//
// Input:    any frame.
// Verdict:  XDP_TX, with the two MAC addresses swapped; XDP_PASS where there are none.

#include <uapi/linux/bpf.h>
#include <uapi/linux/if_ether.h>

int swap(struct xdp_md *context)
{
    void *data = (void *)(long)context->data;
    void *end = (void *)(long)context->data_end;
    u16 *mac = data;
    int i;

    if (data + sizeof(struct ethhdr) > end)
        return XDP_PASS;
#pragma unroll
    for (i = 0; i < 3; i++) {
        u16 one = mac[i];
        mac[i] = mac[i + 3];
        mac[i + 3] = one;
    }
    return XDP_TX;
}
