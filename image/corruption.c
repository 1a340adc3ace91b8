/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What is found wrong with an image, for programs without a monitor: lines on stderr. */
#include "image/corruption.h"

#include <stdio.h>
#include <string.h>

#include "block/node.h"
#include "qapi/event-sink.h"

static void tell(const char *name, json_t *data, void *opaque)
{
    const char *msg;

    (void)opaque;
    if (strcmp(name, "BLOCK_IMAGE_CORRUPTED") != 0) {
        return;
    }
    msg = json_string_value(json_object_get(data, "msg"));
    fflush(stdout);
    if (json_is_true(json_object_get(data, "fatal"))) {
        fprintf(stderr,
                "qcow2: Marking image as corrupt: %s; further corruption events will be "
                "suppressed\n",
                msg);
    } else {
        fprintf(stderr,
                "qcow2: Image is corrupt: %s; further non-fatal corruption events will be "
                "suppressed\n",
                msg);
    }
}

static void tell_finding(const char *line)
{
    fflush(stdout);
    fprintf(stderr, "%s\n", line);
}

void image_tell_corruption(void)
{
    block_set_findings(tell_finding);
    event_sink_add(tell, NULL);
}
