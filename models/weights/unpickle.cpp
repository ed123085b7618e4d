#include "models/weights/unpickle.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <unordered_map>

#include "base/error.h"

namespace longtake {
namespace {

using Kind = PickleValue::Kind;

// A tensor takes about 20 values, so this is a state dict of 100,000 tensors; the largest known models have some
// thousands.
constexpr size_t max_values = 2'000'000;

class Machine {
 public:
  Machine(std::span<const uint8_t> bytes, const std::string& what) : bytes_(bytes), what_(what) {}

  Pickle run() {
    while (step(read<uint8_t>())) {
    }
    return std::move(pickle_);
  }

 private:
  [[noreturn]] void damaged(const std::string& why) const {
    fail_file("{}: its pickle is damaged at byte {} ({})", what_, at_, why);
  }

  // --- reading ---
  template <class T>
  T read() {
    if (bytes_.size() - at_ < sizeof(T)) damaged("it ends early");
    T value;
    std::memcpy(&value, bytes_.data() + at_, sizeof(T));
    at_ += sizeof(T);
    return value;
  }
  std::string_view read_text(uint64_t length) {
    if (length > bytes_.size() - at_) damaged("a text runs beyond the end");
    const std::string_view text(reinterpret_cast<const char*>(bytes_.data()) + at_, length);
    at_ += length;
    return text;
  }
  std::string_view read_line() {
    const auto rest = bytes_.subspan(at_);
    const auto end = std::find(rest.begin(), rest.end(), '\n');
    if (end == rest.end()) damaged("a line does not end");
    const std::string_view line = read_text(static_cast<uint64_t>(end - rest.begin()));
    ++at_;
    return line;
  }
  int64_t read_long(uint8_t length) {  // two's complement of any length
    if (length > 8) damaged("a number is longer than 64 bits");
    const std::string_view digits = read_text(length);
    uint64_t value = length > 0 && (digits.back() & 0x80) != 0 ? ~uint64_t{0} : 0;
    for (size_t i = digits.size(); i-- > 0;) value = (value << 8) | static_cast<uint8_t>(digits[i]);
    return static_cast<int64_t>(value);
  }
  double read_real() {  // big-endian
    auto raw = read<std::array<uint8_t, 8>>();
    std::reverse(raw.begin(), raw.end());
    return std::bit_cast<double>(raw);
  }

  // --- the stack of indices into values; a mark is where a container's items begin ---
  PickleValue& value(uint32_t index) { return pickle_.values[index]; }
  void push(PickleValue value) {
    if (pickle_.values.size() >= max_values) fail_file("{}: its pickle holds too many values for a model", what_);
    stack_.push_back(static_cast<uint32_t>(pickle_.values.size()));
    pickle_.values.push_back(std::move(value));
  }
  void push(Kind kind) { push(PickleValue{.kind = kind}); }
  void push_integer(int64_t integer, Kind kind = Kind::integer) { push(PickleValue{.kind = kind, .integer = integer}); }
  void push_text(std::string_view text) { push(PickleValue{.kind = Kind::text, .text = text}); }
  // The items may not reach below the newest mark: those belong to another container.
  size_t floor() const { return marks_.empty() ? 0 : marks_.back(); }
  uint32_t top() const {
    if (stack_.size() <= floor()) damaged("the stack is empty");
    return stack_.back();
  }
  uint32_t pop() {
    const uint32_t index = top();
    stack_.pop_back();
    return index;
  }
  std::vector<uint32_t> pop_to_mark() {
    if (marks_.empty()) damaged("no mark is set");
    std::vector<uint32_t> items(stack_.begin() + static_cast<std::ptrdiff_t>(marks_.back()), stack_.end());
    stack_.resize(marks_.back());
    marks_.pop_back();
    return items;
  }
  void push_tuple(size_t count) {
    std::vector<uint32_t> items(count);
    for (size_t i = count; i-- > 0;) items[i] = pop();
    push(PickleValue{.kind = Kind::tuple, .items = std::move(items)});
  }
  void append(Kind kind, const std::vector<uint32_t>& items) {
    PickleValue& container = value(top());
    if (container.kind != kind || (kind == Kind::dict && items.size() % 2 != 0)) damaged("a container does not fit");
    added_ += items.size();  // items may repeat, so their number needs a bound of its own
    if (added_ > max_values) fail_file("{}: its pickle holds too many values for a model", what_);
    container.items.insert(container.items.end(), items.begin(), items.end());
  }
  void get(uint32_t key) {
    const auto it = memo_.find(key);
    if (it == memo_.end()) damaged("it refers to something that it did not keep");
    if (stack_.size() >= max_values) fail_file("{}: its pickle holds too many values for a model", what_);
    stack_.push_back(it->second);
  }

  // --- calls ---
  static bool is_storage(const PickleValue& global) {
    return global.text == "torch" && global.name.size() > 7 && global.name.ends_with("Storage");
  }
  static bool is(const PickleValue& global, std::string_view module, std::string_view name) {
    return global.text == module && global.name == name;
  }
  void push_global(std::string_view module, std::string_view name) {
    PickleValue global{.kind = Kind::global, .text = module, .name = name};
    if (!is(global, "collections", "OrderedDict") && !is(global, "torch._utils", "_rebuild_tensor_v2") &&
        !is(global, "torch._utils", "_rebuild_parameter") && !is_storage(global)) {
      fail_file(
          "{}: its pickle wants to use '{}.{}', which is no part of a plain state dict; nothing from a checkpoint is "
          "ever "
          "run, so convert it to .safetensors where it was made",
          what_, module.substr(0, 200), name.substr(0, 200));
    }
    push(std::move(global));
  }
  bool kinds(const std::vector<uint32_t>& items, std::initializer_list<Kind> expected) {
    if (items.size() < expected.size()) return false;
    return std::equal(expected.begin(), expected.end(), items.begin(),
                      [&](Kind kind, uint32_t item) { return value(item).kind == kind; });
  }
  void reduce() {
    const uint32_t arguments = pop(), callable = pop();
    if (value(arguments).kind != Kind::tuple || value(callable).kind != Kind::global) damaged("a call is malformed");
    const PickleValue& global = value(callable);
    const std::vector<uint32_t>& items = value(arguments).items;
    if (is(global, "collections", "OrderedDict")) {
      if (!items.empty()) damaged("an OrderedDict is called with arguments");
      push(Kind::dict);
    } else if (is(global, "torch._utils", "_rebuild_tensor_v2")) {
      if (!kinds(items, {Kind::storage, Kind::integer, Kind::tuple, Kind::tuple})) damaged("a tensor is malformed");
      push(PickleValue{.kind = Kind::tensor, .items = {items.begin(), items.begin() + 4}});
    } else if (is(global, "torch._utils", "_rebuild_parameter")) {
      if (!kinds(items, {Kind::tensor})) damaged("a parameter is malformed");
      stack_.push_back(items[0]);
    } else {
      damaged("a storage type is called");
    }
  }
  void push_storage() {  // ('storage', torch.FloatStorage, '0', 'cpu', 24)
    const uint32_t id = pop();
    const std::vector<uint32_t>& items = value(id).items;
    if (value(id).kind != Kind::tuple ||
        !kinds(items, {Kind::text, Kind::global, Kind::text, Kind::text, Kind::integer}) ||
        value(items[0]).text != "storage" || !is_storage(value(items[1]))) {
      damaged("a persistent id names no storage");
    }
    push(PickleValue{.kind = Kind::storage, .items = {items[1], items[2], items[4]}});
  }

  // Runs one opcode; false at the end of the program.
  bool step(uint8_t opcode) {
    switch (opcode) {
      case 0x80:  // PROTO
        if (const int version = read<uint8_t>(); version > 5) damaged(fmt::format("protocol {} is unknown", version));
        break;
      case 0x95:
        read<uint64_t>();
        break;  // FRAME
      case '(':
        marks_.push_back(stack_.size());
        break;
      case '}':
        push(Kind::dict);
        break;
      case ']':
        push(Kind::list);
        break;
      case ')':
        push(Kind::tuple);
        break;
      case 'N':
        push(Kind::none);
        break;
      case 0x88:
        push_integer(1, Kind::boolean);
        break;
      case 0x89:
        push_integer(0, Kind::boolean);
        break;
      case 'J':
        push_integer(read<int32_t>());
        break;
      case 'K':
        push_integer(read<uint8_t>());
        break;
      case 'M':
        push_integer(read<uint16_t>());
        break;
      case 0x8a:
        push_integer(read_long(read<uint8_t>()));
        break;
      case 'G':
        push(PickleValue{.kind = Kind::real, .real = read_real()});
        break;
      case 'X':
        push_text(read_text(read<uint32_t>()));
        break;
      case 0x8c:
        push_text(read_text(read<uint8_t>()));
        break;
      case 0x8d:
        push_text(read_text(read<uint64_t>()));
        break;
      case 't':
        push(PickleValue{.kind = Kind::tuple, .items = pop_to_mark()});
        break;
      case 0x85:
        push_tuple(1);
        break;
      case 0x86:
        push_tuple(2);
        break;
      case 0x87:
        push_tuple(3);
        break;
      case 'q':
        memo_[read<uint8_t>()] = top();
        break;
      case 'r':
        memo_[read<uint32_t>()] = top();
        break;
      case 0x94:
        memo_.insert_or_assign(static_cast<uint32_t>(memo_.size()), top());
        break;
      case 'h':
        get(read<uint8_t>());
        break;
      case 'j':
        get(read<uint32_t>());
        break;
      case 's': {
        const uint32_t item = pop(), key = pop();
        append(Kind::dict, {key, item});
        break;
      }
      case 'u':
        append(Kind::dict, pop_to_mark());
        break;
      case 'a':
        append(Kind::list, {pop()});
        break;
      case 'e':
        append(Kind::list, pop_to_mark());
        break;
      case 'c': {
        const std::string_view module = read_line(), name = read_line();
        push_global(module, name);
        break;
      }
      case 0x93: {
        const uint32_t name = pop(), module = pop();
        if (value(name).kind != Kind::text || value(module).kind != Kind::text) damaged("a global has no name");
        push_global(value(module).text, value(name).text);
        break;
      }
      case 'Q':
        push_storage();
        break;
      case 'R':
        reduce();
        break;
      case 'b':  // the attributes of a state dict (its _metadata) are of no use here
        pop();
        if (value(top()).kind != Kind::dict) damaged("attributes are set on something else than a dict");
        break;
      case '.':
        pickle_.root = pop();
        return false;
      default:
        fail_file(
            "{}: its pickle uses the opcode 0x{:02x} at byte {}, which no plain state dict needs; convert it to "
            ".safetensors where it was made",
            what_, opcode, at_ - 1);
    }
    return true;
  }

  std::span<const uint8_t> bytes_;
  const std::string& what_;
  size_t at_ = 0;
  size_t added_ = 0;
  Pickle pickle_;
  std::vector<uint32_t> stack_;
  std::vector<size_t> marks_;
  std::unordered_map<uint32_t, uint32_t> memo_;
};

}  // namespace

Pickle read_pickle(std::span<const uint8_t> bytes, const std::string& what) { return Machine(bytes, what).run(); }

}  // namespace longtake
