/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The jump between stacks, for x86-64 and aarch64.
 *
 * co_asm_switch(void **save_sp, void *load_sp): push what a callee preserves,
 * store the stack pointer, load the other one, pop the same. The floating point
 * control words are not saved: nothing in this program changes them.
 *
 * void *co_asm_init(void *stack_top, CoEntry *entry, void *opaque): lay out the
 * frame that the first switch pops. It ends in co_asm_entry with the stack
 * pointer 16-byte aligned, as a call needs it, and calls entry(opaque). The
 * unwinder stops there: the return address is declared undefined.
 */

#if defined(__x86_64__)

    .text
    .p2align 4
    .globl co_asm_switch
    .hidden co_asm_switch
    .type co_asm_switch, @function
co_asm_switch:
    .cfi_startproc
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    popq %rcx
    jmp *%rcx
    .cfi_endproc
    .size co_asm_switch, . - co_asm_switch

    .p2align 4
    .globl co_asm_init
    .hidden co_asm_init
    .type co_asm_init, @function
co_asm_init:
    .cfi_startproc
    andq $-16, %rdi
    leaq co_asm_entry(%rip), %rax
    movq %rax, -16(%rdi)        /* popped into rcx; rsp is then rdi - 8 */
    movq $0, -24(%rdi)          /* rbp: ends chains of frame pointers */
    movq %rdx, -32(%rdi)        /* rbx: opaque */
    movq %rsi, -40(%rdi)        /* r12: entry */
    movq $0, -48(%rdi)
    movq $0, -56(%rdi)
    movq $0, -64(%rdi)
    leaq -64(%rdi), %rax
    ret
    .cfi_endproc
    .size co_asm_init, . - co_asm_init

    .p2align 4
    .type co_asm_entry, @function
co_asm_entry:
    .cfi_startproc
    .cfi_undefined rip
    subq $8, %rsp               /* 16-byte aligned before the call */
    movq %rbx, %rdi
    callq *%r12
    ud2
    .cfi_endproc
    .size co_asm_entry, . - co_asm_entry

#elif defined(__aarch64__)

    .text
    .p2align 4
    .globl co_asm_switch
    .hidden co_asm_switch
    .type co_asm_switch, %function
co_asm_switch:
    .cfi_startproc
    hint #34                    /* bti c */
    sub sp, sp, #160
    stp x19, x20, [sp, #0]
    stp x21, x22, [sp, #16]
    stp x23, x24, [sp, #32]
    stp x25, x26, [sp, #48]
    stp x27, x28, [sp, #64]
    stp x29, x30, [sp, #80]
    stp d8, d9, [sp, #96]
    stp d10, d11, [sp, #112]
    stp d12, d13, [sp, #128]
    stp d14, d15, [sp, #144]
    mov x9, sp
    str x9, [x0]
    mov sp, x1
    ldp x19, x20, [sp, #0]
    ldp x21, x22, [sp, #16]
    ldp x23, x24, [sp, #32]
    ldp x25, x26, [sp, #48]
    ldp x27, x28, [sp, #64]
    ldp x29, x30, [sp, #80]
    ldp d8, d9, [sp, #96]
    ldp d10, d11, [sp, #112]
    ldp d12, d13, [sp, #128]
    ldp d14, d15, [sp, #144]
    add sp, sp, #160
    ret
    .cfi_endproc
    .size co_asm_switch, . - co_asm_switch

    .p2align 4
    .globl co_asm_init
    .hidden co_asm_init
    .type co_asm_init, %function
co_asm_init:
    .cfi_startproc
    hint #34
    and x0, x0, #-16
    sub x0, x0, #160
    stp x1, x2, [x0, #0]        /* x19: entry, x20: opaque */
    adr x9, co_asm_entry
    stp xzr, x9, [x0, #80]      /* x29: ends chains of frame pointers; x30: where ret goes */
    ret
    .cfi_endproc
    .size co_asm_init, . - co_asm_init

    .p2align 4
    .type co_asm_entry, %function
co_asm_entry:
    .cfi_startproc
    .cfi_undefined x30
    mov x0, x20
    blr x19
    brk #1
    .cfi_endproc
    .size co_asm_entry, . - co_asm_entry

#else
#error "no coroutine switch for this processor: configure with -Dcoroutine=ucontext"
#endif

    .section .note.GNU-stack, "", %progbits
