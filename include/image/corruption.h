/* SPDX-License-Identifier: GPL-2.0-or-later */
#ifndef IMAGE_CORRUPTION_H
#define IMAGE_CORRUPTION_H

/**
 * image_tell_corruption() - from now on print why an image was found, or marked, corrupt (once an
 * image and kind), and each finding of a check or repair
 *
 * For programs; call it once, on the main loop's thread.
 */
void image_tell_corruption(void);

#endif
