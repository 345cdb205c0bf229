-- Does: replaces what a permit holds by what its call really used, whatever became of the node
-- KEYS[1]: the handoff's base key
-- ARGV[1]: permit   ARGV[2]: JSON {tokens by kind}   ARGV[3]: nano-dollars
-- Returns: 1, or 0 if it was settled before, or the handoff has gone
-- Errors:  none of its own
-- include: tree.lua
-- include: budget.lua
local base = KEYS[1]
local stored = redis.call('HGET', base .. ':permits', ARGV[1])
local held = stored and cjson.decode(stored)
local node = held and load_node(base, held.node)
if not node then
  return 0
end
local usage, nano = cjson.decode(ARGV[2]), tonumber(ARGV[3])
redis.call('HDEL', base .. ':permits', ARGV[1])
redis.call('ZREM', base .. ':permit_ends', ARGV[1])
charge(base, held.node, held.lapsed and 'spent' or 'held', -held.tokens, -held.nano)
if nano > 0 or tokens_of(usage) > 0 then
  spend(base, held.node, node, usage, nano)
  save_node(base, held.node, node)
  emit(base, {type = 'cost', node = held.node, tokens = tokens_of(usage), nano = nano})
end
keep_alive(base)
return 1
