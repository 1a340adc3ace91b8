/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The table of all drivers; it sits above them, so only programs and tests link it. */
#ifndef BLOCK_DRIVERS_H
#define BLOCK_DRIVERS_H

/** drivers_register() - let options name every driver of the schema */
void drivers_register(void);

#endif
