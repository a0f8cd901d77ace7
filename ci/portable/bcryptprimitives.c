// The one function of bcryptprimitives.dll that std wants, for a wine that does not have that library yet (before 8.5).
#include <windows.h>
#include <ntsecapi.h>

__declspec(dllexport) BOOL WINAPI ProcessPrng(PBYTE bytes, SIZE_T count) { return RtlGenRandom(bytes, (ULONG)count); }
