-- Add entries to histories, whoever writes.
--
-- KEYS[1..]    the histories
-- ARGV[1..]    for each history what `history` says
local at = 1
for i = 1, #KEYS do
  at = add_entries(KEYS[i], ARGV, at)
end
