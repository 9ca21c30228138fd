// Picks, once a process, the widest instruction set that both the build and the processor have.
#pragma once
#include <cstdlib>
#include <cstring>

namespace exafel {

enum class Isa { baseline, avx2, avx512 };

// EXAFEL_ISA=baseline|avx2|avx512 in the environment lowers the choice (to compare results, or to find a fault).
inline Isa detect_isa() {
#ifdef EXAFEL_X86_DISPATCH
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const char *wish = std::getenv("EXAFEL_ISA");
  if (wish != nullptr && std::strcmp(wish, "baseline") == 0) return Isa::baseline;
  if (wish != nullptr && std::strcmp(wish, "avx2") == 0) return avx2 ? Isa::avx2 : Isa::baseline;
  return avx512 ? Isa::avx512 : avx2 ? Isa::avx2 : Isa::baseline;
#else
  return Isa::baseline;
#endif
}

inline Isa isa() {
  static const Isa chosen = detect_isa();
  return chosen;
}

inline const char *isa_name() {
  switch (isa()) {
    case Isa::avx512: return "avx512";
    case Isa::avx2: return "avx2";
    default: return "baseline";
  }
}

}  // namespace exafel

// EXAFEL_DISPATCH(f, args...): calls exafel::<isa>::f(args...). Each function is declared in all three namespaces.
#ifdef EXAFEL_X86_DISPATCH
#define EXAFEL_DISPATCH(function, ...)                                                   \
  (::exafel::isa() == ::exafel::Isa::avx512 ? ::exafel::avx512::function(__VA_ARGS__)    \
   : ::exafel::isa() == ::exafel::Isa::avx2 ? ::exafel::avx2::function(__VA_ARGS__)      \
                                            : ::exafel::baseline::function(__VA_ARGS__))
#else
#define EXAFEL_DISPATCH(function, ...) ::exafel::baseline::function(__VA_ARGS__)
#endif
