// SPDX-License-Identifier: MIT
//
// Lets every packet go on to the kernel's network stack.
//
// Input:    any frame that arrives on the interface it is attached to.
// Verdict:  XDP_PASS, always.
//
// A veth interface accepts frames that its peer sent with XDP_TX or XDP_REDIRECT only while it has
// an XDP program itself; this is the one to give it. `quicpipe-lab doctor` tries XDP with it, too.

#include <uapi/linux/bpf.h>

int quicpipe_pass(struct xdp_md *context)
{
    return XDP_PASS;
}
