#define FLOWS 2
#define REBINDS 1
#include "eccp.inc"
