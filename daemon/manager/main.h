/* Entry of the manager role: argv[1] is its fd table (roles.h). Returns only on failure. */
#ifndef REEVE_MANAGER_MAIN_H
#define REEVE_MANAGER_MAIN_H

int manager_main(int argc, char **argv);

#endif
