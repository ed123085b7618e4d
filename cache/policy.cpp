#include "cache/policy.h"

namespace longtake {

const char* name_of(Phase phase) {
  switch (phase) {
    case Phase::full: return "full";
    case Phase::chunk: return "chunk";
    case Phase::token: return "token";
  }
  return "?";
}

}  // namespace longtake
