// Asks wine whether its barrier is one: a stub says so.
#include <windows.h>

int main(void) { FlushProcessWriteBuffers(); }
