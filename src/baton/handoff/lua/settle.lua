-- Does: replaces what a permit holds by what its call really used, whatever became of the node
-- KEYS[1]: the handoff's base key
-- ARGV[1]: permit   ARGV[2]: JSON {tokens by kind}   ARGV[3]: nano-dollars
-- Returns: 1, or 0 if it was settled before, or the handoff has gone
-- Errors:  none of its own
-- include: tree.lua
-- include: budget.lua
local base = KEYS[1]
if redis.call('EXISTS', base) == 0 then
  return 0
end
local usage, nano = cjson.decode(ARGV[2]), tonumber(ARGV[3])
local held = take_back(base, ARGV[1])
local node = held and load_node(base, held.node)
if not node then
  return 0
end
if redis.call('HGET', base, 'state') ~= 'running' then
  redis.call('HINCRBY', base, 'settled_late', 1)  -- a retry may be copying the nodes
end
if nano > 0 or tokens_of(usage) > 0 then
  spend(base, held.node, node, usage, nano)
  save_node(base, held.node, node)
  emit(base, {type = 'cost', node = held.node, tokens = tokens_of(usage),
              nano = number_text(nano)})
end
keep_alive(base)
return 1
