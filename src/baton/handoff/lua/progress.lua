-- Does: appends a line of progress to a handoff's events, for the holder of the node's newest token
-- KEYS[1]: the handoff's base key
-- ARGV[1]: node   ARGV[2]: fencing token   ARGV[3]: text
-- Returns: 1, or 0 for a late worker
-- Errors:  none of its own
-- include: tree.lua
local base = KEYS[1]
local node = load_node(base, ARGV[1])
if not node or node.state ~= 'leased' or node.fence ~= tonumber(ARGV[2]) then
  return 0
end
emit(base, {type = 'progress', node = ARGV[1], text = ARGV[3]})
return 1
