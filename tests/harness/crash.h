/* SPDX-License-Identifier: BSD-3-Clause */
/*
 * crash.h - power loss: record what is stored, flushed and drained, and build the images that a crash could leave.
 *
 * The model: a store is durable once the thread that made it has drained. Until then each of its 64-byte lines may or
 * may not have reached the media, in any combination, and a line may be torn between its 8-byte words. A line stored
 * several times may be there in any of its versions. Bytes that are stored through a mapping and never flushed are
 * not seen by the recorder: they never become durable.
 */
#ifndef PF_TESTS_CRASH_H
#define PF_TESTS_CRASH_H

#include "media/pmem.h"

struct crash;

/*
 * From now on @pm is recorded; what it holds now is durable. At each drain, before it takes effect, @fn gets images
 * of what a crash could leave at that moment: every combination of the undrained words that make a difference, or of
 * the lines, if there are not more than 8 x @subsets of those; else nothing, everything, everything torn, each
 * store alone, all but each, and @subsets random choices. @fence counts the drains from 0. @image is a private copy:
 * write to it at will, and attach a recorder to it for a crash within. @fn is called with the recorder's lock held, by
 * the draining thread: it must not touch @pm through its ops.
 */
typedef void (*crash_fn)(void *arg, struct pf_pm *image, unsigned int fence);
struct crash *crash_attach(struct pf_pm *pm, crash_fn fn, void *arg, unsigned int subsets, uint64_t seed);
/* @pm gets its own ops back. */
void crash_detach(struct crash *c);

/* Number of drains, and of images, so far. */
unsigned int crash_fences(struct crash *c);
unsigned int crash_images(struct crash *c);
/* The deliberately wrong writer: drain number @fence does nothing (and offers no images). Twins use it. */
void crash_skip_drain(struct crash *c, unsigned int fence);
/* Every drain of a thread that has stored just one line since its last does nothing: in the journal, the one that
 * follows the emptying of a lane. The line goes with the thread's next drain. */
void crash_skip_lone(struct crash *c);
/* Store number @nth (from 0: a call of write, zero or flush) is not on its way to the media, and no drain waits
 * for it. */
void crash_lose_store(struct crash *c, unsigned int nth);
/* Drain number @fence and all later ones fail with -EIO. */
void crash_fail_drain(struct crash *c, unsigned int fence);

/* What is durable now, as an image of its own: call crash_image_free(). */
struct pf_pm *crash_image_now(struct crash *c);
void crash_image_free(struct pf_pm *image);
/* A private view of the device in a memfd, which stays as it is. A recorder attached to it costs little. The memfd is
 * the caller's, and is closed last. */
struct pf_pm *crash_image_of(int fd, uint64_t bytes);
/* Copy @image into a regular file at @path, for programs that want one. 0 or -errno. */
int crash_image_save(const struct pf_pm *image, const char *path);

#endif
