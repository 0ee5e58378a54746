# SPDX-License-Identifier: GPL-2.0-only
# shellcheck shell=dash
#
# Fault injection in a guest (busybox sh); Documentation/fault-injection/fault-injection.rst.

# By default only allocations that may not sleep can fail, and pages only from order 1 on. Which slab caches the filter
# lets through is set on the kernel's command line (harness/vm/machine.py).
any_allocation_may_fail() (
    cd /sys/kernel/debug || return
    echo N >failslab/ignore-gfp-wait
    echo N >fail_page_alloc/ignore-gfp-wait
    echo N >fail_page_alloc/ignore-gfp-highmem
    echo 0 >fail_page_alloc/min-order
    echo 2 >failslab/verbose
    echo 2 >fail_page_alloc/verbose
    echo Y >failslab/cache-filter
)
