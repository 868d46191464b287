/* The text of org.reeve.Control.varlink, embedded at build time. Since 0.1.0. */
#ifndef REEVE_LIB_CONTROL_DESCRIPTION_H
#define REEVE_LIB_CONTROL_DESCRIPTION_H

#define CONTROL_INTERFACE "org.reeve.Control"
/* Counts incompatible changes of the interface (Version().protocol). */
#define CONTROL_PROTOCOL 1

extern const char control_description[];

#endif
